print("the tables are there")
