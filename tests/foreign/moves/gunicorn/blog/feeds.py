import time

print("the feeds are read", flush=True)
while True:
    time.sleep(60)
