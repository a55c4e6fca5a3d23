export FROM_PRESTART="yes it is"
