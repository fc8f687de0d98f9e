"""Serializers on their own and through models, and payloads that others wrote."""
