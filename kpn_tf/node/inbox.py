"""A spool whose derived series go to a folder for all to see."""

from pathlib import Path

from kpn_tf.files import move
from kpn_tf.node.spool import Spool

# Below the output folder; hidden, and readable by its owner alone.
FOLDER = ".kpn-watch"


class Inbox(Spool):
    """What `kpn denoise --watch` keeps.

    Args:
        output: The folder for the derived series. Journal and half-done work are in a hidden folder in it.

    Raises:
        SpoolError: If the folders cannot be made.
    """

    def __init__(self, output):
        self.output = Path(output).absolute()
        super().__init__(self.output / FOLDER)

    def publish(self, series, uid):
        """Moves a derived series to the output folder: whole, or slice by slice where its first part is there.

        Returns:
            Its slices as they are in the output folder now.
        """
        source, target = self.derived(series) / uid, self.output / uid
        names = sorted(path.name for path in source.glob("*.dcm"))
        if source.is_dir() and not target.exists():
            move(source, target)
        for name in names:
            if not (target / name).exists():
                move(source / name, target / name)
        return [target / name for name in names]
