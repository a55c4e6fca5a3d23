"""Run by `docker compose run --rm test`."""

from django.test import TestCase


class PageTest(TestCase):
    def test_each_visit_is_counted(self) -> None:
        for count in (1, 2):
            self.assertContains(self.client.get("/", headers={"host": "localhost"}), f"visit {count}")
