/* What a training run is going to do, told before its first step. */
#ifndef TOOLS_TRAIN_HEADER_H
#define TOOLS_TRAIN_HEADER_H

#include "settings.h"
#include "tool.h"

void train_header_print(const command_session *session, const command_settings *settings,
                        const balora_trainer_information *plan);

#endif
