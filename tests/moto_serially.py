"""moto's server, one write of an object at a time.

moto compares If-Match and If-None-Match with what is stored, and then writes: another of its threads may write between.
S3 itself does both at once.
"""

import threading
from functools import wraps
from typing import Any

from moto.s3.responses import S3Response
from moto.server import main

_LOCK = threading.Lock()
_put_object = S3Response.put_object


@wraps(_put_object)
def _put_object_alone(self: S3Response, *args: Any, **kwargs: Any) -> Any:
    with _LOCK:
        return _put_object(self, *args, **kwargs)


S3Response.put_object = _put_object_alone  # type: ignore[method-assign]

if __name__ == "__main__":
    main()
