"""What does each service do when a message arrives? Messages -> effects, through ports only.

`leaves` are the services that only record effects; `saga` and `registration` are the two that call
others; `compensator` finishes what those had to give up. None of them knows how messages travel.
"""
