"""Small tasks whose answers can be checked: sorting, adding, reversing, copying, countdown, token classes, questions on texts."""
