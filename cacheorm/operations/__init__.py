"""Operations on rows, as generators of backend requests; see :mod:`cacheorm.store` for what runs them."""

from .delete import ModelDelete
from .expire import ModelExpire
from .increment import Increment
from .insert import GetOrCreate, ModelInsert
from .load import ModelLoad
from .many import Delete, Insert, Query, Update
from .query import ModelQuery
from .related import apreload, preload
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
