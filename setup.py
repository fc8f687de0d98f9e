"""Builds the extensions; everything declarative is in pyproject.toml.

``CACHEORM_NO_EXTENSIONS=1`` builds the pure version. ``CACHEORM_REQUIRE_EXTENSIONS=1`` makes a failed compile
an error. With neither, a failed compile gives the pure version and one line that says so.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

PACKAGE = "cacheorm._speedups"
DIRECTIVES = {"language_level": 3}


def is_set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def find_extensions() -> list[Extension]:
    """Find what to compile, by name: nobody has to list a new module here.

    In the folders of the package, ``_X_c.pyx`` is the twin of ``_X_py.py`` and compiled. ``_X.py`` is a source for both
    versions: importable as it is, and compiled under the name ``_X_c``.
    """
    extensions = []
    for folder in sorted(path.parent for path in Path(*PACKAGE.split(".")).glob("*/__init__.py")):
        sources = {path.stem: path for path in folder.glob("_*_c.pyx")}
        sources |= {f"{path.stem}_c": path for path in folder.glob("_[a-z]*.py") if not path.stem.endswith("_py")}
        extensions += [
            Extension(f"{PACKAGE}.{folder.name}.{name}", [path.as_posix()]) for name, path in sorted(sources.items())
        ]
    return extensions


class BuildExtensions(build_ext):
    """Compile all extensions or none: the package takes them all or nothing."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()

    def run(self) -> None:
        # Not caught when the extensions are required: the compiler's own message is the best there is.
        if is_set("CACHEORM_REQUIRE_EXTENSIONS"):
            self.translate()
            super().run()
            return
        # Raised by Cython for a source that it does not take. Its own class can only be named where it is installed.
        failures: tuple[type[Exception], ...] = (CCompilerError, ExecError, PlatformError, ImportError)
        try:
            from Cython.Compiler.Errors import CompileError
        except ImportError:
            pass
        else:
            failures += (CompileError,)
        try:
            self.translate()
            super().run()
        except failures as error:
            self.give_up(error)

    def build_extensions(self) -> None:
        # Python's own flags ask for debug information, which would be five sixths of what users download. The names of
        # functions stay, for profilers. Who wants the rest says so: CFLAGS=-g
        if self.compiler.compiler_type == "unix" and "-g" not in os.environ.get("CFLAGS", "").split():
            for extension in self.extensions:
                extension.extra_compile_args.append("-g0")
        super().build_extensions()

    def translate(self) -> None:
        """Turn the Cython sources into C, outside the package.

        Done here and not at import, so that commands that compile nothing (``sdist``) need no Cython and see the
        sources as they are, and so that a ``.c`` never lies beside a ``.py`` of the same name.
        """
        from Cython import __version__ as version
        from Cython.Build import cythonize

        # What pyproject.toml excludes, for builds that take what is installed.
        if version.startswith("3.3."):
            raise PlatformError(f"Cython {version} compiles list comprehensions wrongly: install Cython>=3.1,!=3.3.*")
        translated = cythonize(
            [Extension(extension.name, list(extension.sources)) for extension in self.extensions],
            # With another Cython everything is translated again.
            build_dir=f"build/cython-{version}",
            compiler_directives=DIRECTIVES,
            quiet=True,
        )
        for extension, made in zip(self.extensions, translated, strict=True):
            extension.sources = made.sources

    def give_up(self, error: Exception) -> None:
        """Leave a pure package: nothing half built, and a wheel that says it runs anywhere."""
        for extension in self.extensions:
            Path(self.get_ext_fullpath(extension.name)).unlink(missing_ok=True)
            Path(self.build_lib, self.get_ext_filename(extension.name)).unlink(missing_ok=True)
        self.extensions = self.distribution.ext_modules = []
        wheel = self.distribution.get_command_obj("bdist_wheel", create=False)
        if wheel is not None:
            wheel.root_is_pure = True
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        print(
            f"cacheorm: building the pure Python version, because the extensions could not be compiled ({reason})",
            file=sys.stderr,
        )


pure = is_set("CACHEORM_NO_EXTENSIONS")
if pure and is_set("CACHEORM_REQUIRE_EXTENSIONS"):
    raise SystemExit("CACHEORM_NO_EXTENSIONS and CACHEORM_REQUIRE_EXTENSIONS exclude each other: unset one of them")

setup(
    ext_modules=[] if pure else find_extensions(),
    cmdclass={"build_ext": BuildExtensions},
)
