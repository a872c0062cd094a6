"""What checks the annotations of the package while testing: beartype, which takes whole numbers for `float` too."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
