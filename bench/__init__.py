"""What the speed costs and buys: time, memory and the roofline of both wings, and of other projects on the same work.

    python -m bench              every measurement, then the report
    python -m bench --peers      other projects too
    python -m bench --quick      a minute's worth, to see that it works

How it is read: `plan` says what is measured, `runner` starts one process a measurement with the candidates taking
turns, `worker` is that process, `rows` turns processes into medians with spread, `report` turns rows into tables and
pictures.
"""
