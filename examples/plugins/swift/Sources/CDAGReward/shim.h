#include "dag_reward.h"
