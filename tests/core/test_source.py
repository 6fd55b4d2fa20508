import functools

import pytest

from steelyard.core.errors import InvalidValue
from steelyard.core.source import function_digest, normalised_source


def test_comments_blanks_and_indentation_do_not_count():
    a = "    def f(x):\n        # why\n        return x + 1  # add\n\n"
    b = "def f(x):\n    return x + 1\n"
    assert normalised_source(a) == normalised_source(b).rstrip()


def test_a_hash_in_a_string_is_content():
    a = 'def f():\n    return "# not a comment"\n'
    b = 'def f():\n    return "# another"\n'
    assert normalised_source(a) != normalised_source(b)


def test_lines_of_a_long_string_are_content():
    a = 'def f():\n    return """one\n\n  two  \n"""\n'
    assert normalised_source(a).splitlines()[1:4] == ['    return """one', "", "  two  "]


def make(bound):
    def task(inputs):
        return bound

    return task


def test_closure_values_and_partials_are_part_of_the_identity():
    assert function_digest(make(1)) == function_digest(make(1))
    assert function_digest(make(1)) != function_digest(make(2))
    assert function_digest(functools.partial(make, 1)) != function_digest(functools.partial(make, 2))


def test_defaults_are_part_of_the_identity():
    def one(x, y=1):
        return x

    first = function_digest(one)
    one.__defaults__ = (2,)
    assert function_digest(one) != first


def test_a_function_in_the_closure_counts_by_its_source():
    assert function_digest(make(lambda: 1)) != function_digest(make(lambda: 2))


def test_no_source_needs_a_version():
    function = eval("lambda inputs: inputs")
    with pytest.raises(InvalidValue, match="version"):
        function_digest(function)
    assert function_digest(function, version="1") != function_digest(function, version="2")


def test_an_opaque_closure_needs_a_version():
    with pytest.raises(InvalidValue, match="version"):
        function_digest(make(object()))
    assert function_digest(make(object()), version="1") == function_digest(make(object()), version="1")
