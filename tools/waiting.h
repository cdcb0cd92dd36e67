#ifndef TOOLS_WAITING_H
#define TOOLS_WAITING_H

/*
 * Let threads that wait for work give their core away soon: by default libgomp spins for milliseconds, and with another
 * busy process on the machine a step becomes several times slower. libgomp reads its settings before main, so this
 * starts the program anew with GOMP_SPINCOUNT set, unless the user has chosen a waiting policy. Returns where that is
 * not needed or not possible.
 */
void waiting_settle(char **words);

#endif
