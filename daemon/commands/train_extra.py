"""The packages of the extra `train`, which training and evaluation need and the service does not."""

from importlib.util import find_spec

from daemon.errors import BadRequest


def require_train_extra(*packages: str) -> None:
    """Raise BadRequest where one of these packages is not installed."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise BadRequest(f'this needs {", ".join(missing)}: pip install "porta-hepatis[train]"')
