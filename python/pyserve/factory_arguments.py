"""Reads the arguments of an application's factory, as in `app:create_app("production", debug=False)`.

The host runs `arguments` before it calls the factory. As in gunicorn (util.py, `import_app`), they are literals.
"""

import ast


def arguments(text):
    """The positional and the named arguments. An error does not repeat the text, which may have secrets in it."""
    try:
        call = ast.parse("f(%s)" % text, mode="eval").body
    except SyntaxError:
        call = None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError("the text between the parentheses is no list of arguments")
    named = {pair.arg: literal(pair.value) for pair in call.keywords}
    if None in named:
        raise ValueError("arguments of a factory are literals, without **")
    return tuple(literal(value) for value in call.args), named


def literal(node):
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError("arguments of a factory are literals, as in 'production'") from None
