"""The rights of the function's own role on the tables, and the roles that it must not be.

The role that owns the tables runs ``migrate`` and ``prune``. The function logs in as another one, DB_APP_ROLE, that has
only the rights that it needs: with a stolen password of it, no table can be emptied or dropped.
The page logs in as a third one, DB_READ_ROLE, that can change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from psycopg2 import sql

from function import errors
from function.clients import postgres

RIGHTS = {
    "vm_state": "SELECT, INSERT, UPDATE",
    "vm_history": "SELECT, INSERT, UPDATE",
    "scaling_notices": "SELECT, INSERT, UPDATE, DELETE",
    "scaling_excess": "SELECT, INSERT, UPDATE, DELETE",
    "vsphere_applied": "SELECT, INSERT, UPDATE",
    "vsphere_turns": "SELECT, INSERT, UPDATE, DELETE",
    "vm_runtime": "SELECT, INSERT, UPDATE",
    "vm_runtime_history": "SELECT, INSERT, UPDATE",
    "clusters": "SELECT, INSERT, UPDATE",
    "reconcile_runs": "SELECT, INSERT",
    "reconcile_seen": "SELECT, INSERT, DELETE",
    "ledger_heard": "SELECT, INSERT, UPDATE, DELETE",
    "ledger_health": "SELECT",
    "dead_letters": "SELECT, INSERT, UPDATE, DELETE",
    "fleet_days": "SELECT, INSERT, DELETE",
    "fleet_days_filled": "SELECT, INSERT, UPDATE",
    "fleet_days_looked": "SELECT, UPDATE",
    "virtual_machines": "SELECT",
    "vm_changes": "SELECT",
    "publish_position": "SELECT, INSERT, UPDATE",
    "prune_runs": "SELECT",
    "_yoyo_migration": "SELECT",
}
"""What the function's role may do, by table or view; with the rest of our tables it may do nothing."""
READS = {
    **dict.fromkeys(
        (
            *("virtual_machines", "vm_changes", "ledger_health", "vm_state", "vm_history"),
            *("vm_runtime", "vm_runtime_history", "clusters", "reconcile_runs", "_yoyo_migration"),
            *("fleet_days", "fleet_days_filled"),
        ),
        "SELECT",
    ),
    "dead_letters": (
        "SELECT (number, count, first_at, last_at, code, sentence, event_id, source, type, attributes, form,"
        " replayed_at)"
    ),
}
"""What the page's role may do; of a dead letter it sees why and what about, and not its data."""
OTHERS = (
    "prune_looked",
    "prune_due",
    "virtual_machines_published",
    "_yoyo_log",
    "_yoyo_version",
    "yoyo_lock",
)

OURS = """
SELECT c.oid::regclass::text, pg_get_userbyid(c.relowner)
FROM pg_class AS c
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v')
  AND (
      c.relname = ANY(%(names)s)
      OR EXISTS (SELECT FROM pg_inherits AS i WHERE i.inhrelid = c.oid AND i.inhparent::regclass::text = ANY(%(names)s))
  )
ORDER BY 1
"""
"""Our tables and views, months too, and the owner of each."""

INCOMPLETE = """
SELECT c.oid::regclass::text, pg_get_userbyid(c.relowner)
FROM pg_class AS c
WHERE c.oid = ANY(%(tables)s::regclass[]) AND c.relacl IS NOT NULL
  AND EXISTS (
      SELECT privilege_type FROM aclexplode(acldefault('r', c.relowner))
      EXCEPT
      SELECT privilege_type FROM aclexplode(c.relacl) WHERE grantee = c.relowner
  )
"""
"""Those whose owner lacks a right that owners have."""

WRITABLE = """
SELECT count(*)
FROM pg_class AS c
CROSS JOIN LATERAL aclexplode(c.relacl) AS held
WHERE c.oid = ANY(%(tables)s::regclass[]) AND held.grantee = 0 AND held.privilege_type <> 'SELECT'
"""
"""How often the role public, which is everybody, may do more with one of them than read."""


def check(cursor: postgres.Cursor, role: str, variable: str = "DB_APP_ROLE") -> None:
    """Raise :class:`errors.Refused` where ``role``, which a variable names, cannot be the function's or the page's."""
    if role.lower() in ("public", "none") or role.startswith("pg_"):
        raise errors.Refused(f"{variable} names a role of Postgres itself, such as public: create one for it")
    cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", [role])
    if cursor.fetchone() == (0,):
        raise errors.Refused(f"{variable} names a role that does not exist: create it first")
    owners = {owner for _, owner in _ours(cursor)}
    cursor.execute("SELECT current_user")
    if role in owners or (not owners and cursor.fetchone() == (role,)):
        raise errors.Refused(
            f"{variable} names the owner of the tables, who would lose rights by it: name another role, or none"
        )


def _ours(cursor: postgres.Cursor) -> list[tuple[str, str]]:
    cursor.execute(OURS, {"names": [*RIGHTS, *OTHERS]})
    return cursor.fetchall()


def repair(cursor: postgres.Cursor) -> tuple[bool, bool]:
    """Undo what earlier versions did where DB_APP_ROLE was the tables' owner, or public.

    Return whether the owner got rights back, and whether public lost some.
    """
    tables = [table for table, _ in _ours(cursor)]
    cursor.execute(INCOMPLETE, {"tables": tables})
    incomplete = cursor.fetchall()
    for table, owner in incomplete:
        cursor.execute(sql.SQL(f"GRANT ALL ON {table} TO {{}}").format(sql.Identifier(owner)))
    cursor.execute(WRITABLE, {"tables": tables})
    writable = cursor.fetchone() != (0,)
    if writable:
        cursor.execute("; ".join(f"REVOKE ALL ON {table} FROM public" for table in tables))
    return bool(incomplete), writable


def grant(cursor: postgres.Cursor, role: str, rights: Mapping[str, str] = RIGHTS) -> None:
    """Give ``role`` these rights on our tables, by table or view, and nothing else on them."""
    cursor.execute("SELECT current_schema()")
    [schema] = cursor.fetchone() or ["public"]
    names = {"role": sql.Identifier(role), "schema": sql.Identifier(schema)}
    statements = [
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        *(f"REVOKE ALL ON {table} FROM {{role}}" for table, _ in _ours(cursor)),
        *(f"GRANT {given} ON {table} TO {{role}}" for table, given in rights.items()),
        "GRANT EXECUTE ON FUNCTION virtual_machines_at(timestamptz), vm_usage(timestamptz, timestamptz) TO {role}",
    ]
    cursor.execute(sql.SQL("; ".join(statements)).format(**names))
