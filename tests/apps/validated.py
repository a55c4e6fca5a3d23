"""Another application, named by the variable VALIDATED, under wsgiref.validate."""

import importlib
import os
from wsgiref.validate import validator

application = validator(importlib.import_module(os.environ["VALIDATED"]).application)
