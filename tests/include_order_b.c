/* Five times the header in a file without the implementation. With AE_STATIC and AE_IMPLEMENTATION
   on the command line this file has a copy of its own, beside the other file's. */
#include "../ae.h"
#include "../ae.h"
#include "../ae.h"
#include "../ae.h"
#include "../ae.h"

const char *other_file(void);

const char *other_file(void)
{
    return ae_status_string(AE_E_SHAPE);
}
