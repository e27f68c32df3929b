"""Load: open-loop traffic through Locust, and the truth about how well it was generated.

Only `loadtests.run` and `loadtests.locustfile` (each in a process of its own) import Locust, which patches the
process through gevent. Everybody else talks to `loadtests.driver`.
"""
