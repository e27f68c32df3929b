"""What does each service do when a message arrives? Messages -> effects, through ports only.

`leaves` are the services that only record effects. Where everything is a call, `saga` and `registration` are
the two that call others, and `compensator` finishes what those had to give up. Where messages are sent instead,
`order_states` decides what becomes of an order, `orchestrator` keeps it, `asking` sees to those that nobody
answers, and `deliveries` is how the leaves answer. None of them knows how messages travel.
"""
