from .examples import load_examples as load_examples, save_examples as save_examples
from .records import Path as Path, is_run as is_run, read_config as read_config
from .run_directories import (
    PRETRAINED as PRETRAINED,
    card as card,
    check_data as check_data,
    check_free as check_free,
    encoder_of as encoder_of,
    load as load,
    load_encoder as load_encoder,
    load_pretrained as load_pretrained,
    resume as resume,
    save as save,
    start as start,
    unfinished as unfinished,
    versions as versions,
    write_card as write_card,
)
