"""The models of a market: what is special about each is for a test."""

from __future__ import annotations

import uuid

from django.db import models


class Brand(models.Model):
    name = models.CharField(max_length=50)


class Active(models.Manager):
    def get_queryset(self) -> models.QuerySet:
        return super().get_queryset().filter(active=True)


class Product(models.Model):
    sku = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=50)
    price = models.DecimalField(max_digits=8, decimal_places=2, default=1)
    stock = models.IntegerField(default=0)
    active = models.BooleanField(default=True)
    brand = models.ForeignKey(Brand, models.CASCADE, null=True, related_name="products")
    owner = models.ForeignKey("market.Owner", models.SET_NULL, null=True)

    actives = Active()  # the default manager: related managers and dumps use it
    objects = models.Manager()

    class Meta:
        ordering = ("-name",)


class Owner(models.Model):
    name = models.CharField(max_length=50)
    favourites = models.ManyToManyField(Product, related_name="fans")


class Page(models.Model):
    """With a key that is not made by the database."""

    slug = models.SlugField(primary_key=True)
    title = models.CharField(max_length=50)


class Author(models.Model):
    """Of which no test has a cached model."""

    name = models.CharField(max_length=50)


class Sheet(models.Model):
    """With the key of another model."""

    product = models.OneToOneField(Product, models.CASCADE, primary_key=True)
    page = models.ForeignKey(Page, models.CASCADE, null=True)
    sold_as = models.ForeignKey(Product, models.CASCADE, to_field="sku", null=True, related_name="+")
    author = models.ForeignKey(Author, models.CASCADE, null=True)
    text = models.TextField()


class Place(models.Model):
    name = models.CharField(max_length=50)


class Shop(Place):
    floors = models.IntegerField()


class Kiosk(Shop):
    sells_papers = models.BooleanField(default=True)


class LargeShop(Shop):
    class Meta:
        proxy = True


class Colour(models.TextChoices):
    RED = "r"
    BLUE = "b"


class Everything(models.Model):
    """A field of each type that all databases have."""

    uid = models.UUIDField(primary_key=True, default=uuid.uuid4)
    big = models.BigIntegerField()
    small = models.SmallIntegerField()
    positive = models.PositiveBigIntegerField()
    number = models.FloatField()
    amount = models.DecimalField(max_digits=20, decimal_places=6)
    text = models.TextField()
    slug = models.SlugField()
    url = models.URLField()
    email = models.EmailField()
    address = models.GenericIPAddressField()
    colour = models.CharField(max_length=1, choices=Colour.choices)
    flag = models.BooleanField()
    day = models.DateField()
    hour = models.TimeField()
    moment = models.DateTimeField()
    duration = models.DurationField()
    other = models.UUIDField()
    data = models.JSONField()
    raw = models.BinaryField()
    file = models.FileField()
    nothing = models.IntegerField(null=True)
    no_text = models.CharField(max_length=5, null=True)
    no_flag = models.BooleanField(null=True)
    no_moment = models.DateTimeField(null=True)
    no_data = models.JSONField(null=True)
    no_raw = models.BinaryField(null=True)


MODELS = [Brand, Owner, Product, Page, Author, Sheet, Place, Shop, Kiosk, Everything]

if hasattr(models, "CompositePrimaryKey"):

    class Entry(models.Model):
        """With a key of two columns."""

        pk = models.CompositePrimaryKey("product_id", "year")
        product = models.ForeignKey(Product, models.CASCADE)
        year = models.IntegerField()
        sold = models.IntegerField(default=0)

    MODELS.append(Entry)

if hasattr(models, "DB_CASCADE"):

    class Leaflet(models.Model):
        """Which the database deletes by itself."""

        brand = models.ForeignKey(Brand, models.DB_CASCADE, related_name="+")

    MODELS.append(Leaflet)
