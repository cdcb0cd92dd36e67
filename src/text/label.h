/* The mark of a token that is not supervised. */
#ifndef TEXT_LABEL_H
#define TEXT_LABEL_H

#define LABEL_NONE (-100) /* in place of the token's id, as in PyTorch */

#endif
