"""The Pulumi program. The engine runs this folder, which is no package then: imports give full names."""

from infra.program import main

main()
