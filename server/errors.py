"""Errors with an HTTP status. Every error response is ``{"code": ..., "message": one sentence}``."""

from __future__ import annotations

import errno
from typing import ClassVar

from foundation.errors import HilnasError


class ApiError(HilnasError):
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, code: str | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.headers = headers or {}


class NotAuthenticated(ApiError):
    status = 401
    code = "not_authenticated"


class NotAllowed(ApiError):
    status = 403
    code = "not_allowed"


class NotFound(ApiError):
    status = 404
    code = "not_found"


class Conflict(ApiError):
    status = 409
    code = "conflict"


class Gone(ApiError):
    status = 410
    code = "gone"


class Malformed(ApiError):
    status = 422
    code = "malformed"


class TooLarge(ApiError):
    status = 413
    code = "too_large"


class RangeNotSatisfiable(ApiError):
    status = 416
    code = "range_not_satisfiable"


class DiskFull(ApiError):
    status = 507
    code = "disk_full"


class StoreFull(ApiError):
    """Our own limit, not the disk's."""

    status = 507
    code = "store_full"


DISK_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def disk_full(what: str) -> DiskFull:
    return DiskFull(
        f"{what} could not be stored because the coordinator's disk is full;"
        " nothing stored before is lost: free some space and send it again"
    )
