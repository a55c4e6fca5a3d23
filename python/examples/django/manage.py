#!/usr/bin/env python3
"""Django's command line. Before the first start:

python manage.py migrate
python manage.py collectstatic --noinput
python manage.py createsuperuser
"""

import os
import sys


def main():
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
