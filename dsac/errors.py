"""What can go wrong outside our code, as one family: the command line prints these as one clear line."""


class DsacError(Exception):
    """Base of every error that a user can mend: the message names file, expectation and what came."""


class DatasetError(DsacError):
    """Images, poses, depth or intrinsics on disk that cannot be used."""


class MapFormatError(DsacError):
    """A map file that is damaged, from another format version, or made with another encoder."""


class BackendError(DsacError):
    """A compute backend asked for by name that is not available here."""
