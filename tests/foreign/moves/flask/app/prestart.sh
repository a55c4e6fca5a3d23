#! /usr/bin/env bash
echo "preparing"
touch /tmp/counter-ready
