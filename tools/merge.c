#include <stdio.h>

#include "commands.h"
#include "tool.h"

int command_merge(const command_settings *settings) {
    command_session session;
    int code = session_start(&session, settings);
    if (code == EXIT_DONE)
        code = session_open(&session, settings);
    if (code == EXIT_DONE) {
        balora_status status = balora_adapter_merge(session.adapter, settings->out_path);
        if (status != BALORA_OK)
            code = tool_fail_library(status);
        else
            printf("written  %s\n", settings->out_path);
    }
    session_end(&session);
    return code;
}
