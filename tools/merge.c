#include "commands.h"
#include "tool.h"

static balora_status merge(balora_adapter *adapter, const command_settings *settings) {
    return balora_adapter_merge(adapter, settings->out_path);
}

int command_merge(const command_settings *settings) {
    return session_write(settings, merge);
}
