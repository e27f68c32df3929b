"""The Pulumi program. The engine runs this folder, which is no package then: imports give full names."""

import pulumi

try:
    from infra.program import main
except ImportError as error:
    raise pulumi.RunError(
        f"the python that runs this program lacks {error.name}; put the project's environment first on PATH: "
        "`make setup`, then `source .venv/bin/activate`"
    ) from None

main()
