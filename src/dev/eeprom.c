/* dev/eeprom.c - the 93C46 serial EEPROM of network cards: 64 words behind three wires.
 *
 * Models     93C46 data sheet (Microchip DS21749): READ, WRITE, ERASE, EWEN, EWDS in the 16-bit organization.
 * Contract   A card embeds struct eeprom93, fills words[] and passes on its pins; it shows data_out to the guest.
 * Theory     Bits are taken in on rising SK while CS is high: a start bit, two of opcode, six of address, then data. READ puts a zero bit
 *            out with the last address bit and then a data bit each clock, on into the next words.
 * Missing    ERAL and WRAL: ignored. Writing takes no time: data_out says ready at once.
 */
#include "../machine.h"
#include "dev.h"

enum { EEPROM_WRITE = 1, EEPROM_READ = 2, EEPROM_ERASE = 3, EEPROM_COMMAND_BITS = 9, EEPROM_WRITE_BITS = 25 };

static void eeprom93_clock(struct eeprom93 *p, bool di)
{
    unsigned op, address;
    if (p->reading) {
        if (!p->out_bits) {
            p->address = (uint8_t)((p->address + 1) % EEPROM93_WORDS);
            p->out = p->words[p->address];
            p->out_bits = 16;
        }
        p->data_out = (p->out >> --p->out_bits) & 1;
        return;
    }
    if ((!p->bits && !di) || p->bits >= EEPROM_WRITE_BITS) /* before the start bit; after the last */
        return;
    p->shift = p->shift << 1 | (di ? 1 : 0);
    p->bits++;
    if (p->bits == EEPROM_COMMAND_BITS) {
        op = (p->shift >> 6) & 3;
        address = p->shift & 63;
        p->address = (uint8_t)address;
        if (op == EEPROM_READ) {
            p->reading = true;
            p->out = p->words[address];
            p->out_bits = 16;
            p->data_out = false;
        } else if (op == 0 && (address >> 4) == 3) {
            p->write_enabled = true;
        } else if (op == 0 && (address >> 4) == 0) {
            p->write_enabled = false;
        } else if (op == EEPROM_ERASE && p->write_enabled) {
            p->words[address] = 0xFFFF;
        }
    } else if (p->bits == EEPROM_WRITE_BITS && ((p->shift >> 22) & 3) == EEPROM_WRITE && p->write_enabled) {
        p->words[p->address] = (uint16_t)p->shift;
    }
}

EMU_PRIV void eeprom93_pins(struct eeprom93 *p, bool cs, bool sk, bool di)
{
    if (!cs || !p->cs) {
        p->bits = 0;
        p->shift = 0;
        p->reading = false;
        p->data_out = true;
    }
    if (cs && sk && !p->sk)
        eeprom93_clock(p, di);
    p->cs = cs;
    p->sk = sk;
}
