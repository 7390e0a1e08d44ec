"""For migrations that change a few words of a long function, rather than say all of it again."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op


def rewrite(name: str, replaced: Mapping[str, str]) -> None:
    """Replaces parts of a function, named with the types of its arguments.

    Raises RuntimeError when one of them is not there: the function is not what earlier migrations made.
    """
    bind = op.get_bind()
    asked = sa.text("select pg_get_functiondef(cast(:name as regprocedure))")
    source = bind.execute(asked, {"name": name}).scalar_one()
    for before, now in replaced.items():
        if before not in source:
            raise RuntimeError(f"{name} does not say {before}: it is not what earlier migrations made")
        source = source.replace(before, now)
    # A driver reads % as the place of a parameter.
    bind.exec_driver_sql(source.replace("%", "%%"))
