"""Records and images without identities, and what of a patient may still be found out."""

from careloop.clean.privacy.anonymity import check_anonymity
from careloop.clean.privacy.deidentify import deidentify_record
from careloop.clean.privacy.release import DeidentificationSettings

__all__ = ["DeidentificationSettings", "check_anonymity", "deidentify_record"]
