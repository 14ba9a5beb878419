# SPDX-License-Identifier: BSD-2-Clause
# The console's font, unpacked from Debian's package fonts-spleen.

FONT_PACKED := /usr/share/consolefonts/spleen-8x16.psfu.gz
FONT        := $(BUILD)/font.psfu

$(FONT): $(FONT_PACKED)
	@mkdir -p $(@D)
	@gunzip -c $< > $@

$(FONT_PACKED):
	@echo "$@ is missing: install Debian's package fonts-spleen (scripts/setup does)" >&2; exit 1

$(BUILD)/hv/drivers/font_data.o: $(FONT)
