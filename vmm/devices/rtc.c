/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/devices/rtc.h"

#include <string.h>
#include <time.h>

#include "vmm/base/math.h"

#define NMI_OFF         0x80
#define REG_SHUTDOWN    0x0f
#define REG_A           0x0a
#define REG_B           0x0b
#define REG_C           0x0c
#define REG_D           0x0d
#define REG_CENTURY     0x32
#define REG_EXT_MEM_LOW 0x34 /* above 16 MiB, in 64 KiB */
#define REG_HIGH_MEM    0x5b /* above 4 GiB, in 64 KiB, three bytes */
#define B_24_HOURS      0x02
#define D_VALID         0x80
#define A_DIVIDER_32KHZ 0x26

static const struct state_field rtc_fields[] = {
	STATE_U8(struct rtc_state, index),
	STATE_BYTES(struct rtc_state, ram),
};
const struct state_desc rtc_state_desc = {
	"rtc",
	.version = 1,
	STATE_LAYOUT(struct rtc_state, rtc_fields),
};

static uint8_t bcd(int v)
{
	return (uint8_t)(v / 10 % 10 << 4 | v % 10);
}

static uint8_t read_index(const struct rtc_state *st, uint8_t index)
{
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	switch (index) {
	case 0x00:
		return bcd(tm.tm_sec);
	case 0x02:
		return bcd(tm.tm_min);
	case 0x04:
		return bcd(tm.tm_hour);
	case 0x06:
		return bcd(tm.tm_wday + 1);
	case 0x07:
		return bcd(tm.tm_mday);
	case 0x08:
		return bcd(tm.tm_mon + 1);
	case 0x09:
		return bcd(tm.tm_year % 100);
	case REG_CENTURY:
		return bcd((tm.tm_year + 1900) / 100);
	case REG_A: /* no update ever in progress */
		return A_DIVIDER_32KHZ;
	case REG_B:
		return B_24_HOURS;
	case REG_C:
		return 0;
	case REG_D:
		return D_VALID;
	default:
		return st->ram[index];
	}
}

static void rtc_read(struct bus_device *dev, uint64_t off, void *data, uint32_t len)
{
	struct rtc *rtc = container_of(dev, struct rtc, region);

	memset(data, 0xff, len);
	if (off != 1)
		return; /* the index is write-only */
	pthread_mutex_lock(&rtc->lock);
	*(uint8_t *)data = read_index(&rtc->st, rtc->st.index & 0x7f);
	pthread_mutex_unlock(&rtc->lock);
}

static void rtc_write(struct bus_device *dev, uint64_t off, const void *data, uint32_t len _unused_)
{
	struct rtc *rtc = container_of(dev, struct rtc, region);
	uint8_t value = *(const uint8_t *)data;
	bool reset = false;

	pthread_mutex_lock(&rtc->lock);
	if (off == 0) {
		rtc->st.index = value;
	} else {
		rtc->st.ram[rtc->st.index & 0x7f] = value;
		reset = rtc->st.index == (NMI_OFF | REG_SHUTDOWN) && value == 0;
	}
	pthread_mutex_unlock(&rtc->lock);
	if (reset)
		rtc->request(rtc->data, MACHINE_REQUEST_RESET);
}

static const struct bus_ops rtc_ops = { "rtc", rtc_read, rtc_write };

void rtc_init(struct rtc *rtc, uint64_t low_end, uint64_t ram_size, machine_request_fn request,
	      void *data)
{
	*rtc = (struct rtc){ .region.ops = &rtc_ops, .request = request, .data = data };
	pthread_mutex_init(&rtc->lock, NULL);
	rtc_set_memory(rtc, low_end, ram_size);
}

void rtc_set_memory(struct rtc *rtc, uint64_t low_end, uint64_t ram_size)
{
	uint64_t ext = low_end > 16 * MIB ? MIN((low_end - 16 * MIB) >> 16, 0xffffULL) : 0;
	uint64_t high = ram_size > low_end ? MIN((ram_size - low_end) >> 16, 0xffffffULL) : 0;

	pthread_mutex_lock(&rtc->lock);
	rtc->st.ram[REG_EXT_MEM_LOW] = (uint8_t)ext;
	rtc->st.ram[REG_EXT_MEM_LOW + 1] = (uint8_t)(ext >> 8);
	for (unsigned int i = 0; i < 3; i++)
		rtc->st.ram[REG_HIGH_MEM + i] = (uint8_t)(high >> (8 * i));
	pthread_mutex_unlock(&rtc->lock);
}

void rtc_deinit(struct rtc *rtc)
{
	if (rtc->region.ops)
		pthread_mutex_destroy(&rtc->lock);
	rtc->region.ops = NULL;
}

void rtc_reset(struct rtc *rtc)
{
	pthread_mutex_lock(&rtc->lock);
	rtc->st.index = 0;
	pthread_mutex_unlock(&rtc->lock);
}
