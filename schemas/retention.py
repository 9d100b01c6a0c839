"""What a run of forgetting has deleted."""

from datetime import date

from pydantic import Field

from schemas.common import Document


class ForgetReport(Document):
    """The documents that were deleted because they were older than the retention."""

    before: date | None = Field(description="Documents of an earlier day are deleted; null: nothing is, ever.")
    deleted: dict[str, int] = Field(description="Number of deleted documents, by folder.")
