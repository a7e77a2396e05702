"""Series from and results to a picture archive (PACS) over DICOMweb: QIDO-RS, WADO-RS and STOW-RS (DICOM PS3.18)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from careloop import InputError
from careloop.record.whole_file import whole_file

if TYPE_CHECKING:
    from dicomweb_client.web import DICOMwebClient

TOKEN = "CARELOOP_DICOMWEB_TOKEN"
TIMEOUT_S = (10.0, 300.0)  # to connect, and between two packets: archives fetch old series from tape
ATTEMPTS, FIRST_WAIT_MS = 3, 250  # of a request that meets a busy or silent archive; each wait doubles
PAGE = 1000  # matches asked for at once
LOCAL = ("localhost", "127.0.0.1", "::1")
Progress = Callable[[str, int, int], None]  # what is done, how much, of how much
_UID = re.compile(r"[0-9.]{1,64}")
# PS3.18 table 10.5.3-1 and PS3.7 annex C: what a Failure Reason means.
_REASONS = {0x0110: "processing failure", 0x0122: "kind of object not supported", 0x0117: "invalid instance",
            0x0124: "not authorised", 0xC122: "transfer syntax not supported"}  # fmt: skip
_REASON_CLASSES = {0xA7: "out of resources", 0xA9: "object does not match its kind", 0xC0: "cannot understand object"}


@dataclass(frozen=True)
class ArchivedStudy:
    """A study that an archive has; empty for what it does not say."""

    study: str
    date: str
    description: str
    modalities: tuple[str, ...]


@dataclass(frozen=True)
class ArchivedSeries:
    """A series that an archive has; `instances` is None where it does not say how many."""

    study: str
    series: str
    modality: str
    description: str
    instances: int | None


@dataclass(frozen=True)
class NotStored:
    """A file that an archive did not take, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Stored:
    """What became of files sent to an archive; `warnings` are taken too, but changed or doubted by the archive."""

    stored: tuple[Path, ...]
    failed: tuple[NotStored, ...]
    warnings: tuple[NotStored, ...] = ()


def find_studies(url: str, *, filters: dict[str, str] | None = None) -> tuple[ArchivedStudy, ...]:
    """The studies that match `filters` (DICOM keywords or tags to values, `PatientID`, `StudyDate`; PS3.18 10.6)."""
    client = _client(url)
    found = []
    for item in _pages(url, client.search_for_studies, "StudyInstanceUID", search_filters=filters or {}):
        modalities = item.get("00080061", {}).get("Value") or []
        found.append(
            ArchivedStudy(
                _first(item, "0020000D"),
                _first(item, "00080020"),
                _first(item, "00081030"),
                tuple(map(str, modalities)),
            )
        )
    return tuple(found)


def find_series(url: str, study: str, *, filters: dict[str, str] | None = None) -> tuple[ArchivedSeries, ...]:
    """The series of a study that match `filters` (`Modality`, `SeriesDescription`, ...)."""
    _check_uid(study)
    client = _client(url)
    found = []
    for item in _pages(url, client.search_for_series, "SeriesInstanceUID", study, search_filters=filters or {}):
        count = _first(item, "00201209")
        found.append(
            ArchivedSeries(
                _first(item, "0020000D") or study,
                _first(item, "0020000E"),
                _first(item, "00080060"),
                _first(item, "0008103E"),
                int(count) if count.isdigit() else None,
            )
        )
    return tuple(found)


def fetch_series(
    url: str, study: str, series: str, folder: Path, *, progress: Progress | None = None
) -> tuple[Path, ...]:
    """Fetch a series into `folder`, a file an instance named by its UID; returns the files.

    Instances come in the transfer syntax they are kept in. A file appears whole or not at all, and what is there
    already is not fetched again, so a fetch that was cut off goes on where it stopped. Credentials come from the
    environment variable CARELOOP_DICOMWEB_TOKEN (a bearer token, sent over https only) or from ~/.netrc; certificates
    are checked (REQUESTS_CA_BUNDLE names a hospital's own). Raises InputError where the archive cannot be reached,
    refuses, or has no such series.
    """
    _check_uid(study)
    _check_uid(series)
    client = _client(url)
    uids = [
        _first(item, "00080018") for item in _pages(url, client.search_for_instances, "SOPInstanceUID", study, series)
    ]
    if not uids:
        raise InputError(f"{_shown(url)} has no instances of that series; check the study and series UID")
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for done, uid in enumerate(uids, start=1):
        if not _UID.fullmatch(uid):  # it becomes a file's name
            raise InputError(f"{_shown(url)} gave an instance a UID that is none; its answer cannot be trusted")
        file = folder / f"{uid}.dcm"
        if not file.exists():
            _fetch_instance(client, url, (study, series, uid), file)
        files.append(file)
        if progress is not None:
            progress("fetched", done, len(uids))
    return tuple(files)


def store_files(url: str, paths: Iterable[Path], *, progress: Progress | None = None) -> Stored:
    """Send DICOM files to an archive (STOW-RS), one a request, so that each one's fate is known.

    Files that it does not take are told with its reason, and do not stop the others. Credentials are as in
    `fetch_series`. Raises InputError where the archive cannot be reached or refuses all.
    """
    client = _client(url)
    paths = list(paths)
    stored: list[Path] = []
    failed: list[NotStored] = []
    warned: list[NotStored] = []
    for done, path in enumerate(paths, start=1):
        reason, warning = _store(client, url, path)
        if reason:
            failed.append(NotStored(path, reason))
        else:
            stored.append(path)
        if warning:
            warned.append(NotStored(path, warning))
        if progress is not None:
            progress("sent", done, len(paths))
    return Stored(tuple(stored), tuple(failed), tuple(warned))


def _client(url: str) -> DICOMwebClient:
    try:
        import requests
        from dicomweb_client.web import DICOMwebClient
    except ImportError as error:
        raise InputError('DICOMweb needs dicomweb-client: pip install "careloop[imaging]"') from error

    class Bearer(requests.auth.AuthBase):
        """Sends the token; as the session's own authentication it is not displaced by an entry in .netrc."""

        def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
            request.headers["Authorization"] = f"Bearer {token}"
            return request

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"an archive's address must begin with https:// or http://, got '{_shown(url)}'")
    token = os.environ.get(TOKEN, "").strip()
    session = requests.Session()
    if token:
        if parts.scheme != "https" and parts.hostname not in LOCAL:
            raise InputError(f"the token in {TOKEN} is sent over https only, got '{_shown(url)}'")
        session.auth = Bearer()
    try:
        client = DICOMwebClient(url.rstrip("/"), session=session, timeout=TIMEOUT_S)
    except ValueError as error:
        raise InputError(f"'{_shown(url)}' is no address of a DICOMweb service") from error
    client.set_http_retry_params(max_attempts=ATTEMPTS, wait_exponential_multiplier=FIRST_WAIT_MS)
    return client


def _pages(
    url: str, search: Callable[..., list[dict[str, Any]]], keyword: str, *where: str, **asked: Any
) -> Iterator[dict[str, Any]]:
    """Yield all matches, page by page; an archive that ignores paging gives all at once or the same page again."""
    tag = {"StudyInstanceUID": "0020000D", "SeriesInstanceUID": "0020000E", "SOPInstanceUID": "00080018"}[keyword]
    seen: set[str] = set()
    while True:
        with _told(url):
            page = search(*where, limit=PAGE, offset=len(seen), **asked)
        new = [item for item in page if _first(item, tag) not in seen]
        seen.update(_first(item, tag) for item in new)
        yield from new
        if not new or len(page) < PAGE:
            return


def _check_uid(uid: str) -> None:
    if not _UID.fullmatch(uid):
        raise InputError("the UID of a study or series is of digits and dots, at most 64, got something else")


def _first(item: dict[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])


def _fetch_instance(client: DICOMwebClient, url: str, uids: tuple[str, str, str], file: Path) -> None:
    with _told(url):
        dataset = client.retrieve_instance(*uids, media_types=(("application/dicom", "*"),))
    if str(dataset.get("SOPInstanceUID", "")) != uids[2]:
        raise InputError(f"{_shown(url)} gave another instance than the one asked for")
    with whole_file(file) as draft:
        dataset.save_as(draft, enforce_file_format=True)


def _store(client: DICOMwebClient, url: str, path: Path) -> tuple[str, str]:
    """Send one file; returns why it failed and what the archive warned of, each empty where there is nothing."""
    import requests
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        dataset = dcmread(path)
    except (OSError, InvalidDicomError):
        return "cannot be read as DICOM", ""
    try:
        with _told(url, but=(400, 409, 413, 415)):
            answer = client.store_instances([dataset])
    except requests.HTTPError as error:
        return _refusal(error.response), ""
    for item in answer.get("FailedSOPSequence") or []:
        return _reason(item.get("FailureReason")), ""
    for item in answer.get("ReferencedSOPSequence") or []:
        if item.get("WarningReason") is not None:
            return "", f"warning {int(item.WarningReason):04X}"
    return "", ""


def _refusal(response: Any) -> str:
    """What the answer to a refused request says, its failure reason where it holds one."""
    try:
        failed = response.json().get("00081198", {}).get("Value") or [{}]
        return _reason(failed[0].get("00081197", {}).get("Value", [None])[0])
    except (ValueError, AttributeError, IndexError):
        return f"refused by the archive (HTTP {response.status_code})"


def _reason(code: Any) -> str:
    if code is None:
        return "refused by the archive"
    number = int(code)
    meaning = _REASONS.get(number) or _REASON_CLASSES.get(number >> 8) or "failure"
    return f"{meaning} ({number:04X})"


@contextmanager
def _told(url: str, *, but: tuple[int, ...] = ()) -> Iterator[None]:
    """Turn errors of the network into one line that says what to do; answers with a status in `but` are passed on."""
    import requests

    where = _shown(url)
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise InputError(
            f"the certificate of {where} cannot be verified; REQUESTS_CA_BUNDLE may name your own"
        ) from error
    except requests.exceptions.Timeout as error:
        raise InputError(f"{where} did not answer in time; try again") from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in but:
            raise
        if status in (401, 403):
            hint = f"set {TOKEN} or an entry in ~/.netrc"
            raise InputError(f"{where} refused access (HTTP {status}); {hint}") from error
        hint = "check the address and the UIDs" if status == 404 else "see the archive's log"
        raise InputError(f"{where} answered HTTP {status}; {hint}") from error
    except requests.RequestException as error:
        raise InputError(f"{where} cannot be reached ({type(error).__name__}); check address and network") from error


def _shown(url: str) -> str:
    """The address without credentials and query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else url.partition("?")[0]
