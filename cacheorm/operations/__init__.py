"""Operations on rows, as generators of backend requests; see :mod:`cacheorm.requests` for what runs them."""

from .delete import ModelDelete
from .expire import ModelExpire
from .increment import Increment
from .insert import GetOrCreate, ModelInsert
from .multi_model import Delete, Insert, Query, Update
from .preloading import apreload, preload
from .query import ModelQuery
from .read_through import ModelLoad
from .update import ModelUpdate

__all__ = [
    "Delete",
    "GetOrCreate",
    "Increment",
    "Insert",
    "ModelDelete",
    "ModelExpire",
    "ModelInsert",
    "ModelLoad",
    "ModelQuery",
    "ModelUpdate",
    "Query",
    "Update",
    "apreload",
    "preload",
]
