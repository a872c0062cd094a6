"""What checks annotations while testing: beartype, told that whole numbers are floats as well (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
