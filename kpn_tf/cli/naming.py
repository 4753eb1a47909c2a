"""What the output of a command that derives series is called: the option that several commands share."""

import dataclasses

from kpn_tf.cli import kinds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Named:
    """The option about the names of folders."""

    names: str = dataclasses.field(
        default="uid",
        metadata={
            "help": "what the folders of derived series are named after: uid (default) or description",
            "kind": kinds.one_of("uid", "description"),
        },
    )
