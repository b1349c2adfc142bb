"""Passwords of local users, as argon2id hashes."""

import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from daemon.errors import BadRequest

SHORTEST, LONGEST = 12, 256

_hasher = PasswordHasher()
_one_at_a_time = threading.Semaphore(2)
"""A hash takes 64 MB and a core: whoever asks for many at once gets them one after the other."""

NOBODY = _hasher.hash("nobody has this password")
"""Compared where there is no such user, so that the time tells nothing."""


def hash_password(password: str) -> str:
    """Return the hash to keep. Raises BadRequest for a password that is too short or too long."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise BadRequest(f"a password has {SHORTEST} to {LONGEST} characters")
    with _one_at_a_time:
        return _hasher.hash(password)


def is_right(password: str, kept: str | None) -> bool:
    """Compare a password with a hash; False for None, after as long."""
    try:
        with _one_at_a_time:
            return _hasher.verify(kept or NOBODY, password[: LONGEST + 1]) and kept is not None
    except (VerificationError, InvalidHashError):
        return False
