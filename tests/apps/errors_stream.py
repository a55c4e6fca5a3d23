"""Writes to wsgi.errors by every method, also from a thread and after the request."""

import threading

import probe

kept = []


def application(environ, start_response):
    errors = environ["wsgi.errors"]
    query = probe.query(environ)
    token = query.get("token", "none")
    if "late" in query:
        kept[0].write("late %s\n" % token)
        kept[0].flush()
        return probe.plain(start_response, "late")
    kept[:] = [errors]
    errors.write("written %s\n" % token)
    errors.writelines(["lines %s\n" % token, "more lines %s\n" % token])
    errors.flush()
    print("printed %s" % token, file=errors)
    errors.write("partial ")
    errors.write("line %s\n" % token)
    thread = threading.Thread(target=errors.write, args=("threaded %s\n" % token,))
    thread.start()
    thread.join()
    return probe.plain(start_response, "ok")
