/* The commands. Each takes the options it was given and returns an exit code. */
#ifndef TOOLS_COMMANDS_H
#define TOOLS_COMMANDS_H

#include "settings.h"

int command_train(option_list *list, command_settings *settings);
int command_eval(const command_settings *settings);
int command_merge(const command_settings *settings);
int command_convert(option_list *list, command_settings *settings);
int command_info(const command_settings *settings);

#endif
