import time

from django.core.management.base import BaseCommand


class Command(BaseCommand):
    def handle(self, *args, **options):
        self.stdout.write("the mailer works\n")
        self.stdout.flush()
        while True:
            time.sleep(60)
