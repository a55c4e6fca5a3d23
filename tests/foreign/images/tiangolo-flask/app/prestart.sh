#! /usr/bin/env bash
echo "Running inside /app/prestart.sh"
alembic upgrade head
