"""Small tasks whose answers can be checked: sorting, adding, reversing, copying, token classes, questions on texts."""
