#ifndef DAG_REWARD_H
#define DAG_REWARD_H
#endif
