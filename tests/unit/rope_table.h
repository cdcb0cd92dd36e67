/* Written by reference_tables.py. */
#ifndef TESTS_ROPE_TABLE_H
#define TESTS_ROPE_TABLE_H

#include <stdint.h>

/* ROPE_INIT_FUNCTIONS of transformers.modeling_rope_utils, in F32. `config` completes config.json. */
static const struct {
    const char *name;
    const char *config;
    int64_t length, count;
    double attention_factor;
    double expected[16];
} rope_frequency_table[] = {
    {"default",
     "\"hidden_size\": 32, \"max_position_embeddings\": 2048, \"rope_parameters\": {\"rope_type\": "
     "\"default\", \"rope_theta\": 10000.0}",
     1,
     8,
     1.0,
     {1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978, 0.00316227786, 0.00100000005,
      0.000316227786}},
    {"a large base",
     "\"hidden_size\": 12, \"max_position_embeddings\": 2048, \"head_dim\": 6, \"rope_parameters\": "
     "{\"rope_type\": \"default\", \"rope_theta\": 1000000.0}",
     1,
     3,
     1.0,
     {1, 0.00999999885, 9.99999684e-05}},
    {"linear",
     "\"hidden_size\": 32, \"max_position_embeddings\": 2048, \"rope_parameters\": {\"rope_type\": "
     "\"linear\", \"rope_theta\": 10000.0, \"factor\": 2.5}",
     1,
     8,
     1.0,
     {0.400000006, 0.1264911, 0.0399999991, 0.0126491114, 0.00399999972, 0.00126491114, 0.000400000019,
      0.000126491112}},
    {"dynamic",
     "\"hidden_size\": 32, \"max_position_embeddings\": 64, \"rope_parameters\": {\"rope_type\": "
     "\"dynamic\", \"rope_theta\": 10000.0, \"factor\": 2.0}",
     1,
     8,
     1.0,
     {1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978, 0.00316227786, 0.00100000005,
      0.000316227786}},
    {"dynamic",
     "\"hidden_size\": 32, \"max_position_embeddings\": 64, \"rope_parameters\": {\"rope_type\": "
     "\"dynamic\", \"rope_theta\": 10000.0, \"factor\": 2.0}",
     64,
     8,
     1.0,
     {1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978, 0.00316227786, 0.00100000005,
      0.000316227786}},
    {"dynamic",
     "\"hidden_size\": 32, \"max_position_embeddings\": 64, \"rope_parameters\": {\"rope_type\": "
     "\"dynamic\", \"rope_theta\": 10000.0, \"factor\": 2.0}",
     65,
     8,
     1.0,
     {1, 0.314840704, 0.0991246626, 0.0312084779, 0.00982569903, 0.00309352996, 0.000973969174,
      0.000306645117}},
    {"dynamic",
     "\"hidden_size\": 32, \"max_position_embeddings\": 64, \"rope_parameters\": {\"rope_type\": "
     "\"dynamic\", \"rope_theta\": 10000.0, \"factor\": 2.0}",
     100,
     8,
     1.0,
     {1, 0.283945143, 0.0806248412, 0.0228930302, 0.00650036521, 0.001845747, 0.000524090894,
      0.000148813066}},
    {"dynamic",
     "\"hidden_size\": 32, \"max_position_embeddings\": 64, \"rope_parameters\": {\"rope_type\": "
     "\"dynamic\", \"rope_theta\": 10000.0, \"factor\": 2.0}",
     1000,
     8,
     1.0,
     {1, 0.194297776, 0.0377516225, 0.00733505562, 0.00142518489, 0.000276910228, 5.38030399e-05,
      1.04538103e-05}},
    {"dynamic, small factor",
     "\"hidden_size\": 20, \"max_position_embeddings\": 64, \"head_dim\": 10, \"rope_parameters\": "
     "{\"rope_type\": \"dynamic\", \"rope_theta\": 50000.0, \"factor\": 1.5}",
     128,
     5,
     1.0,
     {1, 0.0913526118, 0.00834530033, 0.000762364885, 6.96440329e-05}},
    {"llama3 of LLaMA 3.1",
     "\"hidden_size\": 64, \"max_position_embeddings\": 131072, \"head_dim\": 32, \"rope_parameters\": "
     "{\"rope_type\": \"llama3\", \"rope_theta\": 500000.0, \"factor\": 8.0, \"low_freq_factor\": 1.0, "
     "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}",
     1,
     16,
     1.0,
     {1, 0.440366626, 0.193922758, 0.0853971019, 0.0376060307, 0.0165604409, 0.00729266508, 0.00321144611,
      0.000524846022, 7.78465546e-05, 3.42810235e-05, 1.50962178e-05, 6.64786967e-06, 2.92749974e-06,
      1.28917316e-06, 5.6770881e-07}},
    {"llama3 of LLaMA 3.2",
     "\"hidden_size\": 40, \"max_position_embeddings\": 131072, \"head_dim\": 20, \"rope_parameters\": "
     "{\"rope_type\": \"llama3\", \"rope_theta\": 500000.0, \"factor\": 32.0, \"low_freq_factor\": 1.0, "
     "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 8192}",
     1,
     10,
     1.0,
     {1, 0.269217312, 0.0724779591, 0.0195123218, 0.0052530556, 0.000429556705, 1.18978332e-05,
      3.20310437e-06, 8.62330921e-07, 2.3215452e-07}},
    {"yarn",
     "\"hidden_size\": 64, \"max_position_embeddings\": 16384, \"head_dim\": 32, \"rope_parameters\": "
     "{\"rope_type\": \"yarn\", \"rope_theta\": 10000.0, \"factor\": 8.0, "
     "\"original_max_position_embeddings\": 2048}",
     1,
     16,
     1.2079441541679836,
     {1, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0492048636, 0.0237170849, 0.0111142462,
      0.00499999989, 0.00210877997, 0.000790569466, 0.000222284929, 0.000125000006, 7.02926627e-05,
      3.95284733e-05, 2.22284925e-05}},
    {"yarn, dimensions not rounded",
     "\"hidden_size\": 64, \"max_position_embeddings\": 16384, \"head_dim\": 32, \"rope_parameters\": "
     "{\"rope_type\": \"yarn\", \"rope_theta\": 10000.0, \"factor\": 8.0, \"truncate\": false, "
     "\"original_max_position_embeddings\": 2048}",
     1,
     16,
     1.2079441541679836,
     {1, 0.562341332, 0.316227764, 0.177827939, 0.100000001, 0.0483229086, 0.0225780979, 0.0101121459,
      0.00423313351, 0.0015631906, 0.000419459218, 0.000222284929, 0.000125000006, 7.02926627e-05,
      3.95284733e-05, 2.22284925e-05}},
    {"yarn, betas and mscale",
     "\"hidden_size\": 32, \"max_position_embeddings\": 256, \"rope_parameters\": {\"rope_type\": \"yarn\", "
     "\"rope_theta\": 10000.0, \"factor\": 4.0, \"beta_fast\": 4.0, \"beta_slow\": 1.0, \"mscale\": 0.8, "
     "\"mscale_all_dim\": 0.5, \"original_max_position_embeddings\": 64}",
     1,
     8,
     1.0388929752217428,
     {1, 0.237170815, 0.049999997, 0.00790569466, 0.00249999994, 0.000790569466, 0.000250000012,
      7.90569466e-05}},
    {"yarn, given attention factor",
     "\"hidden_size\": 32, \"max_position_embeddings\": 65536, \"rope_parameters\": {\"rope_type\": "
     "\"yarn\", \"rope_theta\": 10000.0, \"factor\": 16.0, \"attention_factor\": 1.25, "
     "\"original_max_position_embeddings\": 4096}",
     1,
     8,
     1.25,
     {1, 0.316227764, 0.100000001, 0.0242111888, 0.00531250006, 0.000938801211, 6.2500003e-05,
      1.97642366e-05}},
    {"yarn, correction range of one dimension",
     "\"hidden_size\": 32, \"max_position_embeddings\": 256, \"rope_parameters\": {\"rope_type\": \"yarn\", "
     "\"rope_theta\": 10000.0, \"factor\": 4.0, \"beta_fast\": 1.0, \"beta_slow\": 1.0, \"truncate\": false, "
     "\"original_max_position_embeddings\": 64}",
     1,
     8,
     1.138629436111989,
     {1, 0.316227764, 0.100000001, 0.00790569466, 0.00249999994, 0.000790569466, 0.000250000012,
      7.90569466e-05}},
};

#endif
