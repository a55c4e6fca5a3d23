"""An application made by a factory, and one that is called neither of the usual names."""

import hello


def create_app():
    return hello.application


def create_app_for(site, debug=True, tags=None):
    if site != "hello" or (debug and not tags):
        raise ValueError("other arguments: %r %r %r" % (site, debug, tags))
    return hello.application


other = hello.application
