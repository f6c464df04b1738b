"""Pictures to train and to score on: prepared sets, folders, research sets and the built-in pictures."""

from redoseg.data.corrected import Corrected, open_corrected, same_images
from redoseg.data.download import ARCHIVES, cache_folder, fetch
from redoseg.data.fetched import local_folder
from redoseg.data.listing import Item, Listing
from redoseg.data.open import BUILT_IN, PAPER_SIZE, labelled_images, open_data, open_shapes, originals, prepare
from redoseg.data.prepared import AT_LEAST, ImageSet, contact_sheet, is_prepared, open_prepared
from redoseg.data.research_sets import READERS, parts_of
from redoseg.data.splits import read_splits
from redoseg.data.writing import Prepared, write_prepared

__all__ = [
    "ARCHIVES",
    "AT_LEAST",
    "BUILT_IN",
    "PAPER_SIZE",
    "READERS",
    "Corrected",
    "ImageSet",
    "Item",
    "Listing",
    "Prepared",
    "cache_folder",
    "contact_sheet",
    "fetch",
    "is_prepared",
    "labelled_images",
    "local_folder",
    "open_corrected",
    "open_data",
    "open_prepared",
    "open_shapes",
    "originals",
    "parts_of",
    "prepare",
    "read_splits",
    "same_images",
    "write_prepared",
]
