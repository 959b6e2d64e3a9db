/// Nothing to call: a program that links this starts with `dag_openmp_wait` in its environment.
#pragma once
