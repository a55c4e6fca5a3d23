"""Answers through a process with two queues that is started when this is imported."""

import multiprocessing

import probe

context = multiprocessing.get_context("fork")
questions, answers = context.Queue(), context.Queue()


def answer():
    while True:
        answers.put(questions.get())


process = context.Process(target=answer, daemon=True)
process.start()


def application(environ, start_response):
    questions.put(environ["QUERY_STRING"])
    return probe.plain(start_response, answers.get(timeout=30))
