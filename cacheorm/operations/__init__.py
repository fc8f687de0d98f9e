"""Operations on rows, as generators of backend requests; see :mod:`cacheorm.store` for what runs them."""

from .delete import ModelDelete
from .insert import GetOrCreate, ModelInsert
from .query import ModelQuery
from .update import ModelUpdate

__all__ = ["GetOrCreate", "ModelDelete", "ModelInsert", "ModelQuery", "ModelUpdate"]
